# Action Cable by itself, as Rails runs it in a server of its own.
require 'action_cable'
require 'logger'

class Connection < ActionCable::Connection::Base
end

# Tells every subscriber what one of them says.
class ChatChannel < ActionCable::Channel::Base
  def subscribed = stream_from('chat')

  def speak(data) = ActionCable.server.broadcast('chat', { text: data['text'] })
end

ActionCable.server.config.tap do |config|
  config.cable = { 'adapter' => 'async' }
  config.logger = Logger.new(File::NULL)
  config.connection_class = -> { Connection }
  config.disable_request_forgery_protection = true
end

map('/health') { run ->(_) { [200, { 'content-type' => 'text/plain' }, ['well']] } }
map('/cable') { run ActionCable.server }
