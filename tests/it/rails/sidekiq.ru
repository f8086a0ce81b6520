# In the place of Sidekiq's pages, which need a Redis.
run ->(env) { [200, { 'content-type' => 'text/plain' }, ["sidekiq #{env['PATH_INFO']}"]] }
