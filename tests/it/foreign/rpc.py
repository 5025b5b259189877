"""A gRPC client that calls one method, known from reflection alone, and prints one JSON object of the answers.

    rpc.py HOST:PORT SERVICE METHOD TEXT...

Each TEXT is put into the field `text` of a message of its own.
"""

import json
import sys

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from client import SECONDS, code_of, parse_details


def main():
    target, service, name, *texts = sys.argv[1:]
    with grpc.insecure_channel(target) as channel:
        pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        method = pool.FindServiceByName(service).FindMethodByName(name)
        request = message_factory.GetMessageClass(method.input_type)
        call = channel.unary_unary(
            f"/{service}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )
        seen = {}
        for text in texts:
            try:
                answer = call(request(text=text), timeout=SECONDS)
                seen[text] = {"code": "OK", "answer": json_format.MessageToDict(answer)}
            except grpc.RpcError as error:
                details = dict(error.trailing_metadata())["grpc-status-details-bin"]
                seen[text] = {"code": error.code().name, "details": parse_details(details)}
        nothing = channel.unary_unary(f"/{service}/NoSuchMethod")
        seen["unknown_method"] = code_of(lambda: nothing(b"", timeout=SECONDS))
    json.dump(seen, sys.stdout, sort_keys=True)


if __name__ == "__main__":
    main()
