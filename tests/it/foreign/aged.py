"""A gRPC server that ends its connections by age, and answers every unary call with an empty message.

    aged.py MILLISECONDS

Prints its port, and serves until it is killed.
"""

import sys
from concurrent import futures

import grpc


class Everything(grpc.GenericRpcHandler):
    def service(self, handler_call_details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: b"")


def main():
    options = [("grpc.max_connection_age_ms", int(sys.argv[1]))]
    server = grpc.server(futures.ThreadPoolExecutor(8), options=options)
    server.add_generic_rpc_handlers((Everything(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
