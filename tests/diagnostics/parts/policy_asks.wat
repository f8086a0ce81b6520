(component
  (import "warpdrive:guest/http@0.1.0" (instance))
  (import "wasi:io/poll@0.2.0" (instance))
  (instance $i)
  (export "warpdrive:policy/load-balancer@0.1.0" (instance $i)))
