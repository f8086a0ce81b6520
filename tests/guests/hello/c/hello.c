// A component that says hello. wit-bindgen makes bindings.h and bindings.c of the interfaces.

#include "hello.h"

#include <stdlib.h>
#include <string.h>

static const char TEXT[] = "hello from C\n";
static const char LENGTH[] = "13";

static void set(wasi_http_types_own_fields_t fields, const char *name, const char *value) {
  hello_string_t key;
  hello_string_set(&key, name);
  wasi_http_types_field_value_t one = {(uint8_t *)value, strlen(value)};
  wasi_http_types_list_field_value_t values = {&one, 1};
  wasi_http_types_header_error_t refused;
  if (!wasi_http_types_method_fields_set(wasi_http_types_borrow_fields(fields), &key, &values, &refused)) {
    abort();
  }
}

void exports_wasi_http_incoming_handler_handle(
    exports_wasi_http_incoming_handler_own_incoming_request_t request,
    exports_wasi_http_incoming_handler_own_response_outparam_t out) {
  wasi_http_types_incoming_request_drop_own(request);

  wasi_http_types_own_fields_t fields = wasi_http_types_constructor_fields();
  set(fields, "content-type", "text/plain");
  set(fields, "content-length", LENGTH);

  wasi_http_types_own_outgoing_response_t response = wasi_http_types_constructor_outgoing_response(fields);
  wasi_http_types_own_outgoing_body_t body;
  if (!wasi_http_types_method_outgoing_response_body(wasi_http_types_borrow_outgoing_response(response), &body)) {
    abort();
  }
  wasi_http_types_result_own_outgoing_response_error_code_t answer = {.is_err = false, .val.ok = response};
  wasi_http_types_static_response_outparam_set(out, &answer);

  wasi_http_types_own_output_stream_t stream;
  if (!wasi_http_types_method_outgoing_body_write(wasi_http_types_borrow_outgoing_body(body), &stream)) {
    abort();
  }
  hello_list_u8_t text = {(uint8_t *)TEXT, sizeof TEXT - 1};
  wasi_io_streams_stream_error_t gone;
  // Who asked may have gone: then nobody reads it.
  if (!wasi_io_streams_method_output_stream_blocking_write_and_flush(wasi_io_streams_borrow_output_stream(stream),
                                                                     &text, &gone)) {
    wasi_io_streams_stream_error_free(&gone);
  }
  wasi_io_streams_output_stream_drop_own(stream);
  wasi_http_types_error_code_t error;
  if (!wasi_http_types_static_outgoing_body_finish(body, NULL, &error)) {
    wasi_http_types_error_code_free(&error);
  }
}
