"""A gRPC client that shares no code with the service: it prints one JSON object of what it saw.

    client.py HOST:PORT

Every call has a deadline; a failure is an exception, and so an exit code other than 0.
"""

import json
import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SECONDS = 20
STATUS = health_pb2.HealthCheckResponse.ServingStatus.Name


def code_of(call):
    """The name of the status that a call fails with."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def orders(channel):
    """Call orders.v1.Orders/GetOrder through descriptors that the service gave by reflection."""
    database = ProtoReflectionDescriptorDatabase(channel)
    services = sorted(database.get_services())
    pool = descriptor_pool.DescriptorPool(database)
    method = pool.FindServiceByName("orders.v1.Orders").FindMethodByName("GetOrder")
    request = message_factory.GetMessageClass(method.input_type)
    answer = message_factory.GetMessageClass(method.output_type)
    call = channel.unary_unary(
        "/orders.v1.Orders/GetOrder",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=answer.FromString,
    )
    order, details = call.with_call(request(id=7), timeout=SECONDS)
    seen = {
        "services": services,
        "order": json_format.MessageToDict(order, preserving_proto_field_name=True),
        "trailers": sorted(key for key, _ in details.trailing_metadata()),
    }
    try:
        call(request(id=0), timeout=SECONDS)
    except grpc.RpcError as error:
        details = dict(error.trailing_metadata())["grpc-status-details-bin"]
        seen["unknown"] = {"code": error.code().name, "message": error.details(), "details": parse_details(details)}
    seen["unknown_method"] = code_of(
        lambda: channel.unary_unary("/orders.v1.Orders/NoSuchMethod")(b"", timeout=SECONDS)
    )
    seen["unknown_service"] = code_of(lambda: channel.unary_unary("/no.such.Service/Method")(b"", timeout=SECONDS))
    return seen


def parse_details(raw):
    """google.rpc.Status, read without its generated code: field 3 repeats Any, whose field 1 is the type."""
    file = descriptor_pb2.FileDescriptorProto(name="rpc.proto", package="test.rpc", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto

    def message(name, *fields):
        made = file.message_type.add(name=name)
        for field_name, number, kind, repeated, type_name in fields:
            label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            made.field.add(name=field_name, number=number, type=kind, label=label, type_name=type_name)

    message("Any", ("type_url", 1, field.TYPE_STRING, False, None), ("value", 2, field.TYPE_BYTES, False, None))
    message(
        "Status",
        ("code", 1, field.TYPE_INT32, False, None),
        ("message", 2, field.TYPE_STRING, False, None),
        ("details", 3, field.TYPE_MESSAGE, True, ".test.rpc.Any"),
    )
    message("ErrorInfo", ("reason", 1, field.TYPE_STRING, False, None), ("domain", 2, field.TYPE_STRING, False, None))
    message("Violation", ("field", 1, field.TYPE_STRING, False, None), ("description", 2, field.TYPE_STRING, False, None))
    message("BadRequest", ("violations", 1, field.TYPE_MESSAGE, True, ".test.rpc.Violation"))
    message("Duration", ("seconds", 1, field.TYPE_INT64, False, None))
    message("RetryInfo", ("delay", 1, field.TYPE_MESSAGE, False, ".test.rpc.Duration"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    make = lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName("test.rpc." + name))
    status = make("Status").FromString(raw)
    seen = {"code": status.code, "message": status.message, "types": [part.type_url for part in status.details]}
    for part in status.details:
        if part.type_url.endswith("/google.rpc.ErrorInfo"):
            info = make("ErrorInfo").FromString(part.value)
            seen["reason"], seen["domain"] = info.reason, info.domain
        if part.type_url.endswith("/google.rpc.BadRequest"):
            violations = make("BadRequest").FromString(part.value).violations
            seen["violations"] = [{"field": one.field, "description": one.description} for one in violations]
        if part.type_url.endswith("/google.rpc.RetryInfo"):
            seen["retry_seconds"] = make("RetryInfo").FromString(part.value).delay.seconds
    return seen


def health(channel):
    """Check, List and Watch of grpc.health.v1."""
    stub = health_pb2_grpc.HealthStub(channel)
    check = lambda name: stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=SECONDS)
    listed = stub.List(health_pb2.HealthListRequest(), timeout=SECONDS).statuses
    seen = {
        "check": {name: STATUS(check(name).status) for name in ("", "orders.v1.Orders")},
        "check_unknown": code_of(lambda: check("no.such.Service")),
        "list": {name: STATUS(listed[name].status) for name in listed},
    }
    for key, name in (("watch", "orders.v1.Orders"), ("watch_unknown", "no.such.Service")):
        stream = stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=1)
        first = STATUS(next(stream).status)
        # Nothing more comes, and the stream stays open: only the caller's own deadline ends it.
        seen[key] = [first, code_of(lambda: next(stream))]
    return seen


def main():
    with grpc.insecure_channel(sys.argv[1]) as channel:
        seen = {"orders": orders(channel), "health": health(channel)}
    json.dump(seen, sys.stdout, sort_keys=True)


if __name__ == "__main__":
    main()
