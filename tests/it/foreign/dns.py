"""A DNS server on loopback that holds what it is told, line by line, as JSON:

{"zone": "…"}       master file text; the server answers with these records from now on
{"soa": false}      negative answers come without an SOA record: nobody vouches for them
{"refuse": ["A"]}   these types get SERVFAIL
{"drop": ["AAAA"]}  these types get no answer at all
{"asked": true}     says which questions were asked so far

It prints its port first, then a line for each line that it has read.
"""

import json
import sys

from dnslib import QTYPE, RCODE, RR, DNSRecord
from dnslib.server import BaseResolver, DNSHandler, DNSServer

SOA = "test. 60 IN SOA ns.test. root.test. 1 3600 600 86400 1"


class Silence(Exception):
    """The question gets no answer."""


class Zone(BaseResolver):
    def __init__(self):
        self.records, self.soa, self.refuse, self.drop, self.asked = [], True, [], [], []

    def resolve(self, request, handler):
        kind = QTYPE[request.q.qtype]
        self.asked.append(f"{request.q.qname} {kind} {handler.protocol}")
        if kind in self.drop:
            raise Silence()
        reply = request.reply()
        if kind in self.refuse:
            reply.header.rcode = RCODE.SERVFAIL
            return reply
        names = [record for record in self.records if record.rname == request.q.qname]
        found = [record for record in names if record.rtype == request.q.qtype]
        reply.add_answer(*found)
        if not found:
            reply.header.rcode = RCODE.NOERROR if names else RCODE.NXDOMAIN
            if self.soa:
                reply.add_auth(*RR.fromZone(SOA))
        return reply


class Handler(DNSHandler):
    def get_reply(self, data):
        reply = super().get_reply(data)
        if self.protocol == "tcp" or len(reply) <= 1232:
            return reply
        # dnslib would leave the question out too.
        truncated = DNSRecord.parse(data).reply()
        truncated.header.tc = 1
        return truncated.pack()

    def handle(self):
        try:
            super().handle()
        except (Silence, ConnectionError):
            pass


class Quiet:
    def __getattr__(self, name):
        return lambda *arguments: None


def servers(zone):
    """Both at one port, which the other protocol may have given to somebody else: then another one is tried."""
    for _ in range(100):
        udp = DNSServer(zone, address="127.0.0.1", port=0, logger=Quiet(), handler=Handler)
        port = udp.server.server_address[1]
        try:
            tcp = DNSServer(zone, address="127.0.0.1", port=port, tcp=True, logger=Quiet(), handler=Handler)
            return udp, tcp, port
        except OSError as error:
            udp.server.server_close()
            last = error
    raise last


zone = Zone()
udp, tcp, port = servers(zone)
udp.start_thread()
tcp.start_thread()
print(port, flush=True)
for line in sys.stdin:
    told = json.loads(line)
    if "zone" in told:
        zone.records = RR.fromZone(told["zone"])
    for key in ("soa", "refuse", "drop"):
        if key in told:
            setattr(zone, key, told[key])
    print(json.dumps(zone.asked), flush=True)
