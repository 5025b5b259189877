"""Calls methods of orders.v1.Orders one after the other, and prints what came of each as a JSON list.

    orders.py HOST:PORT CALLS

CALLS is a JSON list of [method, request]; "$id" in a request stands for the id of the first order that was answered. The
messages come from the service's own reflection. Every call has a deadline.
"""

import json
import sys

import grpc
from client import SECONDS, parse_details
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def main():
    calls = json.loads(sys.argv[2])
    seen, first = [], None
    with grpc.insecure_channel(sys.argv[1]) as channel:
        pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        service = pool.FindServiceByName("orders.v1.Orders")
        for name, request in calls:
            method = service.FindMethodByName(name)
            message = message_factory.GetMessageClass(method.input_type)()
            json_format.ParseDict({key: first if value == "$id" else value for key, value in request.items()}, message)
            answer = message_factory.GetMessageClass(method.output_type)
            call = channel.unary_unary(
                f"/{service.full_name}/{name}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=answer.FromString,
            )
            try:
                order = json_format.MessageToDict(
                    call(message, timeout=SECONDS), preserving_proto_field_name=True, always_print_fields_with_no_presence=True
                )
                first = first or order.get("id")
                seen.append({"answer": order})
            except grpc.RpcError as error:
                details = parse_details(dict(error.trailing_metadata())["grpc-status-details-bin"])
                seen.append({"status": error.code().name, "message": error.details(), **details})
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main()
