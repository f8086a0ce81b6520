(component (instance $i) (export "wasi:http/incoming-handler@0.2.3" (instance $i)))
