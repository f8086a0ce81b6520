;; A policy by hand. What it does with a request is put in the place of SELECT, what it says to its
;; configuration in that of CONFIGURE, and what it does when it is told of one in that of REPORT.
;;
;; There are for that, all of them with static places in memory:
;;   $ctx, $list, $count       the request, the endpoints (20 bytes each), how many
;;   ($pick INDEX), ($none)    what select returns
;;   ($field PTR LEN) -> i32   the first byte of a field's value, or -1
;;   ($text) -> i32            the length of the body's text, or -1
;;   ($model) -> i32           the first byte of the model, or -1
;;   ($metric VALUE)           an observation "seen"
;;   ($log)                    a line
;;   ($next NAME) -> f64       a counter in the store
;; Texts: 100 "x-pick", 110 "seen", 120 "counter", 130 "a line", 140 "no thanks".
(component
  (import "warpdrive:policy/requests@0.1.0" (instance $requests
    (export "context" (type $context (sub resource)))
    (export "[method]context.field"
      (func (param "self" (borrow $context)) (param "name" string) (result (option string))))
    (export "[method]context.text" (func (param "self" (borrow $context)) (result (option string))))
    (export "[method]context.model" (func (param "self" (borrow $context)) (result (option string))))
    (export "[method]context.attempt" (func (param "self" (borrow $context)) (result u32)))))
  (alias export $requests "context" (type $context))
  (import "warpdrive:guest/metrics@0.1.0" (instance $metrics
    (export "record-metric" (func (param "name" string) (param "value" f64)))))
  (import "warpdrive:guest/log@0.1.0" (instance $logs
    (type $level' (enum "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $level')))
    (export "log" (func (param "level" $level) (param "message" string)))))
  (import "warpdrive:guest/store@0.1.0" (instance $store
    (type $error' (enum "full" "too-long" "wrong-kind" "not-finite"))
    (export "error" (type $error (eq $error')))
    (export "increment"
      (func (param "key" string) (param "by" f64) (param "ttl-ms" u32) (result (result f64 (error $error)))))))
  (import "warpdrive:guest/endpoints@0.1.0" (instance $endpoints
    (export "load" (func (param "upstream" string) (param "index" u32) (result u32)))
    (export "count" (func (param "upstream" string) (result u32)))))

  (core module $room
    (memory (export "memory") 2)
    (global $free (export "free") (mut i32) (i32.const 1024))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get 3)))
      (local.get $at)))
  (core instance $room (instantiate $room))
  (alias core export $room "memory" (core memory $memory))
  (alias core export $room "cabi_realloc" (core func $realloc))

  (core func $drop (canon resource.drop $context))
  (core func $field (canon lower (func $requests "[method]context.field") (memory $memory) (realloc $realloc)))
  (core func $text (canon lower (func $requests "[method]context.text") (memory $memory) (realloc $realloc)))
  (core func $model (canon lower (func $requests "[method]context.model") (memory $memory) (realloc $realloc)))
  (core func $attempt (canon lower (func $requests "[method]context.attempt")))
  (core func $metric (canon lower (func $metrics "record-metric") (memory $memory)))
  (core func $log (canon lower (func $logs "log") (memory $memory)))
  (core func $increment (canon lower (func $store "increment") (memory $memory)))
  (core func $load (canon lower (func $endpoints "load") (memory $memory)))
  (core func $count (canon lower (func $endpoints "count") (memory $memory)))

  (core module $policy
    (import "room" "memory" (memory 2))
    (import "room" "free" (global $free (mut i32)))
    (import "host" "drop" (func $drop (param i32)))
    (import "host" "field" (func $field' (param i32 i32 i32 i32)))
    (import "host" "text" (func $text' (param i32 i32)))
    (import "host" "model" (func $model' (param i32 i32)))
    (import "host" "attempt" (func $attempt' (param i32) (result i32)))
    (import "host" "metric" (func $metric' (param i32 i32 f64)))
    (import "host" "log" (func $log' (param i32 i32 i32)))
    (import "host" "increment" (func $increment' (param i32 i32 f64 i32 i32)))
    (import "host" "load" (func $load' (param i32 i32 i32) (result i32)))
    (import "host" "count" (func $count' (param i32 i32) (result i32)))
    (data (i32.const 100) "x-pick")
    (data (i32.const 110) "seen")
    (data (i32.const 120) "counter")
    (data (i32.const 130) "a line")
    (data (i32.const 140) "no thanks")
    (data (i32.const 150) "app")
    (global $ctx (mut i32) (i32.const 0))

    (func $pick (param $index i32) (result i32)
      (i32.store8 (i32.const 16) (i32.const 1))
      (i32.store (i32.const 20) (local.get $index))
      (i32.const 16))
    (func $none (result i32)
      (i32.store8 (i32.const 16) (i32.const 0))
      (i32.const 16))
    ;; The first byte of an option<string> at 32.
    (func $first (result i32)
      (if (result i32) (i32.load8_u (i32.const 32))
        (then (i32.load8_u (i32.load (i32.const 36))))
        (else (i32.const -1))))
    (func $field (param i32 i32) (result i32)
      (call $field' (global.get $ctx) (local.get 0) (local.get 1) (i32.const 32))
      (call $first))
    (func $model (result i32)
      (call $model' (global.get $ctx) (i32.const 32))
      (call $first))
    (func $text (result i32)
      (call $text' (global.get $ctx) (i32.const 32))
      (if (result i32) (i32.load8_u (i32.const 32))
        (then (i32.load (i32.const 40)))
        (else (i32.const -1))))
    (func $attempt (result i32) (call $attempt' (global.get $ctx)))
    (func $metric (param f64) (call $metric' (i32.const 110) (i32.const 4) (local.get 0)))
    (func $log (call $log' (i32.const 1) (i32.const 130) (i32.const 6)))
    (func $next (result f64)
      (call $increment' (i32.const 120) (i32.const 7) (f64.const 1) (i32.const 0) (i32.const 48))
      (f64.load (i32.const 56)))
    (func $load (param $index i32) (result i32)
      (call $load' (i32.const 150) (i32.const 3) (local.get $index)))
    (func $endpoints (result i32) (call $count' (i32.const 150) (i32.const 3)))

    ;; ok(subscription), or an error.
    (func $subscribe (param $head i32) (param $text i32) (result i32)
      (i32.store8 (i32.const 64) (i32.const 0))
      (i32.store8 (i32.const 68) (local.get $head))
      (i32.store (i32.const 72) (local.get $text))
      (i32.const 64))
    (func $decline (result i32)
      (i32.store8 (i32.const 64) (i32.const 1))
      (i32.store (i32.const 68) (i32.const 140))
      (i32.store (i32.const 72) (i32.const 9))
      (i32.const 64))
    (func (export "configure") (param $json i32) (param $len i32) (result i32)
      CONFIGURE)

    (func $select (param $list i32) (param $count i32) (result i32)
      (local $i i32)
      SELECT)
    (func (export "select") (param $context i32) (param $list i32) (param $count i32) (result i32)
      (local $picked i32)
      (global.set $ctx (local.get $context))
      (local.set $picked (call $select (local.get $list) (local.get $count)))
      (call $drop (local.get $context))
      (global.set $free (i32.const 1024))
      (local.get $picked))
    (func (export "report") (param $id i32) (param $status i32) (param $head-us i32) (param $failed i32)
      REPORT))
  (core instance $policy (instantiate $policy
    (with "room" (instance $room))
    (with "host" (instance
      (export "drop" (func $drop))
      (export "field" (func $field))
      (export "text" (func $text))
      (export "model" (func $model))
      (export "attempt" (func $attempt))
      (export "metric" (func $metric))
      (export "log" (func $log))
      (export "increment" (func $increment))
      (export "load" (func $load))
      (export "count" (func $count))))))

  (type $endpoint' (record (field "id" u32) (field "active" u32) (field "ewma-us" u32)
    (field "weight" u32) (field "healthy" bool)))
  (type $subscription' (record (field "head" bool) (field "text-max" u32)))
  (func $configure' (param "json" string) (result (result $subscription' (error string)))
    (canon lift (core func $policy "configure") (memory $memory) (realloc $realloc)))
  (func $select' (param "ctx" (own $context)) (param "endpoints" (list $endpoint')) (result (option u32))
    (canon lift (core func $policy "select") (memory $memory) (realloc $realloc)))
  (component $load-balancer
    (import "context" (type $context (sub resource)))
    (type $endpoint' (record (field "id" u32) (field "active" u32) (field "ewma-us" u32)
      (field "weight" u32) (field "healthy" bool)))
    (import "endpoint" (type $endpoint (eq $endpoint')))
    (type $subscription' (record (field "head" bool) (field "text-max" u32)))
    (import "subscription" (type $subscription (eq $subscription')))
    (import "configure" (func $configure (param "json" string) (result (result $subscription (error string)))))
    (import "select" (func $select
      (param "ctx" (own $context)) (param "endpoints" (list $endpoint)) (result (option u32))))
    (export $endpoint'' "endpoint" (type $endpoint))
    (export $subscription'' "subscription" (type $subscription))
    (export "configure" (func $configure)
      (func (param "json" string) (result (result $subscription'' (error string)))))
    (export "select" (func $select)
      (func (param "ctx" (own $context)) (param "endpoints" (list $endpoint'')) (result (option u32)))))
  (instance $load-balancer (instantiate $load-balancer
    (with "context" (type $context))
    (with "endpoint" (type $endpoint'))
    (with "subscription" (type $subscription'))
    (with "configure" (func $configure'))
    (with "select" (func $select'))))
  (export "warpdrive:policy/load-balancer@0.1.0" (instance $load-balancer))

  (type $outcome' (record (field "status" u16) (field "head-us" u32) (field "failed" bool)))
  (func $report' (param "id" u32) (param "outcome" $outcome')
    (canon lift (core func $policy "report")))
  (component $feedback
    (type $outcome' (record (field "status" u16) (field "head-us" u32) (field "failed" bool)))
    (import "outcome" (type $outcome (eq $outcome')))
    (import "report" (func $report (param "id" u32) (param "outcome" $outcome)))
    (export $outcome'' "outcome" (type $outcome))
    (export "report" (func $report) (func (param "id" u32) (param "outcome" $outcome''))))
  (instance $feedback (instantiate $feedback
    (with "outcome" (type $outcome'))
    (with "report" (func $report'))))
  (export "warpdrive:policy/feedback@0.1.0" (instance $feedback)))
