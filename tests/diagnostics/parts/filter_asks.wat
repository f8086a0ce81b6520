(component
  (import "wasi:io/poll@0.2.0" (instance))
  (instance $i)
  (export "warpdrive:middleware/filter@0.1.0" (instance $i)))
