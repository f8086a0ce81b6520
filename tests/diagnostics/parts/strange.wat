(component
  (import "acme:db/query@1.0.0" (instance))
  (instance $i)
  (export "wasi:http/incoming-handler@0.2.3" (instance $i)))
