# The servers that people use every day, as their documentation shows them.
#     python everyday.py (threads | gevent | aiohttp) ADDRESS PORT BODY

import sys

KIND, ADDRESS, PORT, BODY = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4].encode()
BACKLOG = 4096


def threads():
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Otherwise head and body are two packets, and each answer waits 40 ms between them.
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY)

        def log_message(self, *arguments):
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = BACKLOG
        daemon_threads = True

    Server((ADDRESS, PORT), Handler).serve_forever()


def gevent():
    from gevent import socket
    from gevent.pywsgi import WSGIServer

    def application(environment, start_response):
        fields = [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))]
        start_response("200 OK", fields)
        return [BODY]

    # Otherwise head and body are two packets here, too.
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.bind((ADDRESS, PORT))
    listener.listen(BACKLOG)
    WSGIServer(listener, application, log=None).serve_forever()


def aiohttp():
    from aiohttp import web

    async def answer(request):
        return web.Response(body=BODY, content_type="text/plain")

    application = web.Application()
    application.router.add_get("/", answer)
    web.run_app(
        application, host=ADDRESS, port=PORT, backlog=BACKLOG, access_log=None, print=None
    )


{"threads": threads, "gevent": gevent, "aiohttp": aiohttp}[KIND]()
