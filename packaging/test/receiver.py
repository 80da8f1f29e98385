#!/usr/bin/env python3
"""An HTTP endpoint that counts: receiver.py PORT FILE. Each uplink's id and frame go into FILE, one line each; what
`packhorse test` has made up does not."""

import http.server
import json
import sys


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "simulated" not in body:
            with open(sys.argv[2], "a", encoding="utf-8") as file:
                file.write(f"{body['id']} {body['phy_payload']}\n")
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
