"""WSGI middleware that hands every exchange to understudy: app = observe(app). See docs/adapters.md."""
import base64, io, json, os, queue, threading, urllib.request

URL = os.environ.get("UNDERSTUDY_URL", "http://127.0.0.1:9469") + "/observe"
TOKEN_FILE = os.environ.get("UNDERSTUDY_TOKEN_FILE")  # Where the admin listener wants a token; read each time, since it is renewed.
waiting = queue.Queue(1000)  # When it is full, exchanges are not handed in: the service never waits for us.

def fields():
    if not TOKEN_FILE:
        return {}
    with open(TOKEN_FILE, encoding="ascii") as file:
        return {"Authorization": "Bearer " + file.read().strip()}

def send():
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            opener.open(urllib.request.Request(URL, waiting.get().encode(), fields()), timeout=5).close()
        except (OSError, ValueError):
            pass  # It is not handed in. Nothing is said of it here: the text could hold the token.

def observe(app):
    threading.Thread(target=send, daemon=True).start()
    def observed(environ, start_response):
        body, seen = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)), {}
        environ["wsgi.input"] = io.BytesIO(body)
        def start(status, headers, exc_info=None):
            seen.update(status=int(status.split()[0]), headers=[list(pair) for pair in headers])
            return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)
        answer = b"".join(app(environ, start))
        target = environ["PATH_INFO"] + ("?" + environ["QUERY_STRING"] if environ.get("QUERY_STRING") else "")
        fields = [[name[5:].replace("_", "-").title(), value] for name, value in environ.items() if name[:5] == "HTTP_"]
        request = {"method": environ["REQUEST_METHOD"], "target": target, "headers": fields, "body": base64.b64encode(body).decode()}
        if not waiting.full():
            waiting.put_nowait(json.dumps({"request": request, "response": {**seen, "body": base64.b64encode(answer).decode()}}))
        return [answer]
    return observed
