(component
  (import "warpdrive:guest/http@0.1.0" (instance))
  (instance $i)
  (export "warpdrive:middleware/filter@0.1.0" (instance $i)))
