(component (instance $i) (export "wasi:http/handler@0.3.0" (instance $i)))
