(component (instance $i) (export "warpdrive:middleware/filter@0.1.0" (instance $i)))
