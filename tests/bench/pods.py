"""How long a pod takes to run, seen from the API and from the CRI socket."""

import http.client
import json
import ssl
import threading
import time

COUNT = 100


class Api:
    """Requests to the API server with the administrator's certificate; one connection a thread."""

    def __init__(self, cluster):
        self.address = cluster.address(2)
        self.context = ssl.create_default_context(cadata=cluster.ca_pem())
        self.context.check_hostname = False
        self.context.load_cert_chain(*cluster.admin_certificate())
        self.local = threading.local()

    def connect(self):
        return http.client.HTTPSConnection(self.address, 6443, context=self.context, timeout=120)

    def request(self, method, path, body=None):
        if not hasattr(self.local, "connection"):
            self.local.connection = self.connect()
        connection = self.local.connection
        connection.request(method, path, body=None if body is None else json.dumps(body),
                           headers={"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {text[:300]!r}")
        return json.loads(text)

    def watch(self, path):
        connection = self.connect()
        connection.request("GET", path + "?watch=true")
        for line in connection.getresponse():
            yield json.loads(line)


class Watcher:
    """Notes when each pod is first seen Running, and when it is gone."""

    def __init__(self, api):
        self.times = {}
        self.changed = threading.Condition()
        threading.Thread(target=self._follow, args=[api], daemon=True).start()

    def _follow(self, api):
        for event in api.watch("/api/v1/namespaces/default/pods"):
            pod = event["object"]
            seen = "gone" if event["type"] == "DELETED" else pod["status"].get("phase")
            with self.changed:
                self.times.setdefault((pod["metadata"]["name"], seen), time.perf_counter())
                self.changed.notify_all()

    def wait(self, name, what):
        with self.changed:
            if not self.changed.wait_for(lambda: (name, what) in self.times, 120):
                raise TimeoutError(f"pod {name} was not seen {what} within 120 s")
            return self.times[name, what]


def pod(name, image):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": 0,
                     "containers": [{"name": "c", "image": image, "command": ["sleep", "100000"]}]}}


def percentile(values, percent):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def one_pod(api, watcher, name, image):
    start = time.perf_counter()
    api.request("POST", "/api/v1/namespaces/default/pods", pod(name, image))
    up = watcher.wait(name, "Running") - start
    api.request("DELETE", f"/api/v1/namespaces/default/pods/{name}?gracePeriodSeconds=0")
    watcher.wait(name, "gone")
    return up * 1000


def run_in_threads(count, threads, work):
    numbers, results, lock = iter(range(count)), [], threading.Lock()

    def worker():
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            results.append(work(number))

    started = [threading.Thread(target=worker) for _ in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    if len(results) != count:
        raise RuntimeError(f"{count - len(results)} of {count} pods failed")
    return results


def figures(cluster):
    api = Api(cluster)
    watcher = Watcher(api)
    image = f"{cluster.registry}/busybox:test"
    one_pod(api, watcher, "warm", image)  # pulls the image
    for threads in [1, 10]:
        start = time.perf_counter()
        times = run_in_threads(COUNT, threads, lambda n: one_pod(api, watcher, f"p{threads}-{n}", image))
        seconds = time.perf_counter() - start
        for percent in [50, 95]:
            yield {"name": f"api create to Running, {threads} at once, p{percent}",
                   "value": round(percentile(times, percent), 1), "unit": "ms"}
        yield {"name": f"pods up and down, {threads} at once", "value": round(COUNT / seconds, 1), "unit": "pods/s"}

