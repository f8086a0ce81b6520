# In the place of the application: which server it is, and what it was asked for.
run lambda { |env|
  sleep 0.01 if env['PATH_INFO'] == '/slow'
  text = "rails #{Process.pid} #{ENV.fetch('RAILS_ENV')} #{env['HTTP_X_FORWARDED_HOST']} #{env['PATH_INFO']}"
  [200, { 'content-type' => 'text/plain' }, [text]]
}
