(component (instance $i) (export "warpdrive:policy/load-balancer@0.1.0" (instance $i)))
