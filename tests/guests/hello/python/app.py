"""A component that says hello. `wit_world` is what componentize-py makes of the interfaces."""

from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports import types

TEXT = b"hello from Python\n"


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: types.IncomingRequest, out: types.ResponseOutparam) -> None:
        fields = types.Fields.from_list([("content-type", b"text/plain"), ("content-length", b"%d" % len(TEXT))])
        response = types.OutgoingResponse(fields)
        body = response.body()
        types.ResponseOutparam.set(out, Ok(response))
        with body.write() as stream:
            stream.blocking_write_and_flush(TEXT)
        types.OutgoingBody.finish(body, None)
