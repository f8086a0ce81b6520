;; Exports the interface of a policy by name, but no function of it.
(component
  (instance $empty)
  (export "warpdrive:policy/load-balancer@0.1.0" (instance $empty)))
