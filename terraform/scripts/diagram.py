#!/usr/bin/env python3
"""Draws docs/architecture.svg from the Terraform of the AWS target; --check only compares.

Where a box stands is said here; that it exists is read from terraform/: each box names a module that terraform/aws
composes and a resource in it, each arrow between tasks a connection of modules/network with its port. A module that
has no box appears in the row at the foot. Exits with 1 when the drawing is stale, or when it names what is not there.
"""

import html
import pathlib
import re
import sys

TERRAFORM = pathlib.Path(__file__).resolve().parent.parent
ROOT = TERRAFORM / "aws"
DRAWING = TERRAFORM.parent / "docs" / "architecture.svg"

WIDTH, BOX_WIDTH, BOX_HEIGHT = 1250, 240, 72
COLUMNS = (40, 350, 660, 970)
ROWS = {"outside": 44, "edge": 164, "first": 326, "second": 450, "endpoints": 574, "stores": 700, "beside": 846}

# name: (column, row, module, resource, title, second line)
BOXES = {
    "identity": (0, "outside", "identity", "aws_cognito_user_pool", "Cognito user pool", "signs ID tokens with the tenant"),
    "mirror": (1, "outside", "jwks_mirror", "aws_lambda_function", "Key mirror", "pool's keys to S3, every minute"),
    "acl": (1, "edge", "edge", "aws_wafv2_web_acl", "Web ACL", "rate, reputation, managed rules"),
    "api": (2, "edge", "rest_api", "aws_api_gateway_rest_api", "REST API (or HTTP API)", "checks the ID token"),
    "link": (3, "edge", "vpc_link", "aws_apigatewayv2_vpc_link", "VPC link V2", "the only way in"),
    "alb": (3, "first", "services", "aws_lb", "Internal load balancer", "rules by path"),
    "order": (2, "first", "task", "aws_ecs_service", "order-service", "Fargate tasks, the sample consumer"),
    "config": (2, "second", "task", "aws_ecs_service", "config-service", "Fargate tasks, each with a cache"),
    "map": (1, "first", "discovery", "aws_service_discovery_service", "Cloud Map", "private DNS, every task's address"),
    "invalidator": (1, "second", "refresh", "aws_lambda_function", "Invalidator", "sends changes to every task"),
    "letters": (0, "second", "refresh", "aws_sqs_queue", "Dead letters", "one queue for each way to fail"),
    "stream": (1, "stores", "refresh", "aws_lambda_event_source_mapping", "Stream mapping", "batches, split around what fails"),
    "rule": (0, "stores", "refresh", "aws_cloudwatch_event_rule", "EventBridge rules", "changes of configuration only"),
    "table": (2, "stores", "storage", "aws_dynamodb_table", "DynamoDB table", "tenants' own configuration"),
    "parameters": (3, "stores", "storage", "aws_ssm_parameter", "Parameter Store", "shared defaults and overrides"),
}
ENDPOINTS = ("endpoints", "aws_vpc_endpoint", "VPC endpoints")

# from, to, path ("request", "change"), what the label says, or the key of a connection in modules/network
ARROWS = [
    ("client", "identity", "request", "signs in"),
    ("client", "acl", "request", "ID token"),
    ("acl", "api", "request", ""),
    ("api", "link", "request", ""),
    ("link", "alb", "request", "edge-to-alb"),
    ("alb", "order", "request", "alb-to-order"),
    ("alb", "config", "request", "alb-to-config"),
    ("order", "config", "request", "order-to-config"),
    ("config", "endpoints", "request", "misses"),
    ("endpoints", "table", "request", ""),
    ("endpoints", "parameters", "request", ""),
    ("identity", "mirror", "request", "keys"),
    ("table", "stream", "change", "stream"),
    ("stream", "invalidator", "change", ""),
    ("parameters", "rule", "change", "events, best effort"),
    ("rule", "invalidator", "change", ""),
    ("invalidator", "map", "change", "who runs?"),
    ("invalidator", "config", "change", "invalidator-to-refresh"),
    ("invalidator", "letters", "change", ""),
]

STYLE = """
    .sheet { fill: #ffffff } .zone { fill: #f4f6f8; stroke: #9aa5b1; stroke-dasharray: 6 4 }
    .box { fill: #ffffff; stroke: #52606d } .chip { fill: #f4f6f8; stroke: #9aa5b1 } .back { fill: #ffffff } .back-in { fill: #f4f6f8 }
    text { font-family: "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; fill: #1f2933 }
    .title { font-size: 14px; font-weight: 600 } .line { font-size: 12px } .small { font-size: 10.5px; fill: #52606d }
    .request { stroke: #1d6fb8; fill: none; stroke-width: 2 } .change { stroke: #c2570c; fill: none; stroke-width: 2; stroke-dasharray: 7 4 }
    .request-head { fill: #1d6fb8 } .change-head { fill: #c2570c } .request-text { font-size: 11px; fill: #1d6fb8 } .change-text { font-size: 11px; fill: #c2570c }
    @media (prefers-color-scheme: dark) {
      .sheet, .back { fill: #0d1117 } .zone, .back-in { fill: #161b22 } .zone { stroke: #59636e } .box { fill: #0d1117; stroke: #8b949e }
      .chip { fill: #161b22; stroke: #59636e } text { fill: #e6edf3 } .small { fill: #9da7b1 }
      .request { stroke: #6cb6ff } .change { stroke: #f69d50 } .request-head { fill: #6cb6ff } .change-head { fill: #f69d50 }
      .request-text { fill: #6cb6ff } .change-text { fill: #f69d50 }
    }
"""


class Terraform:
    """What the drawing needs of the AWS target's source."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        text = "\n".join(file.read_text() for file in sorted(ROOT.glob("*.tf")))
        self.modules = dict(re.findall(r'^module "(\w+)" \{\n\s*source\s*=\s*"\.\./([\w/]+)"', text, re.M))
        self.ports = dict(re.findall(r"^\s{4}(\w+)\s*= (\d+)$", text, re.M))
        self.ports["listener"] = "80 or 443"
        network = (TERRAFORM / "modules" / "network" / "security_groups.tf").read_text()
        self.connections = {
            key: (source, target, self.ports.get(port, "?"))
            for key, source, target, port in re.findall(
                r'^ {4}([\w-]+) = \{\n\s*from\s*= "([\w-]+)"\n\s*to\s*= "([\w-]+)"\n\s*port\s*= var\.ports\.(\w+)', network, re.M
            )
        }
        statements = (TERRAFORM / "modules" / "network" / "endpoint_statements" / "outputs.tf").read_text()
        block = re.search(r'output "interface_endpoints".*?merge\(\n(.*?)\n {2}\)\n', statements, re.S)
        gateway = re.search(r'output "gateway_endpoints".*?value = \{\n(.*?)\n {2}\}\n', statements, re.S)
        # What stands after the first closing brace is there only with a load-test runner.
        always = block[1].split("\n    },\n")[0] if block else ""
        self.interface_endpoints = re.findall(r'^ {6}"?([\w.-]+)"? += (?:\[|concat\()', always, re.M)
        self.gateway_endpoints = re.findall(r"^ {4}(\w+) += (?:\[|concat\()", gateway[1] if gateway else "", re.M)
        if not self.interface_endpoints or not self.gateway_endpoints:
            self.problems.append("the endpoints of modules/network/endpoint_statements could not be read")

    def require(self, module: str, resource: str) -> None:
        """The root composes the module, and the module has the resource."""
        if module not in self.modules:
            self.problems.append(f"terraform/aws composes no module {module}")
            return
        files = (TERRAFORM / self.modules[module]).glob("*.tf")
        if not any(re.search(rf'^resource "{resource}" "', file.read_text(), re.M) for file in files):
            self.problems.append(f"{self.modules[module]} has no {resource}")

    def label(self, text: str) -> str:
        """A connection's port, or the words as they are."""
        if not re.fullmatch(r"[a-z]+-to-[a-z]+", text):
            return text
        if text not in self.connections:
            self.problems.append(f"modules/network has no connection {text}")
            return "?"
        return f"port {self.connections[text][2]}"


class Drawing:
    """Lines of SVG."""

    def __init__(self, terraform: Terraform) -> None:
        self.terraform = terraform
        self.lines: list[str] = []
        self.places = {name: (COLUMNS[box[0]], ROWS[box[1]], BOX_WIDTH, BOX_HEIGHT) for name, box in BOXES.items()}
        self.places["client"] = (COLUMNS[0], ROWS["edge"], BOX_WIDTH, BOX_HEIGHT)
        self.places["endpoints"] = (COLUMNS[2], ROWS["endpoints"], COLUMNS[3] + BOX_WIDTH - COLUMNS[2], BOX_HEIGHT)

    def text(self, kind: str, x: float, y: float, words: str, anchor: str = "middle") -> None:
        self.lines.append(f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{html.escape(words)}</text>')

    def rectangle(self, kind: str, x: float, y: float, width: float, height: float, radius: int = 6) -> None:
        self.lines.append(f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius}"/>')

    def box(self, name: str, title: str, line: str, small: str) -> None:
        x, y, width, height = self.places[name]
        self.rectangle("box", x, y, width, height)
        self.text("title", x + width / 2, y + 22, title)
        self.text("line", x + width / 2, y + 41, line)
        self.text("small", x + width / 2, y + 60, small)

    def arrow(self, start: str, end: str, kind: str, label: str, inside: bool) -> None:
        """A line from edge to edge: straight where two boxes face each other, else with corners as `routes` says."""
        points, middle = self.route(start, end)
        path = "M" + " L".join(f"{x:g} {y:g}" for x, y in points)
        self.lines.append(f'<path class="{kind}" d="{path}" marker-end="url(#{kind})"/>')
        if label:
            x, y = middle
            width = 6.1 * len(label) + 6
            self.rectangle("back-in" if inside else "back", x - width / 2, y - 9, width, 16, 3)
            self.text(f"{kind}-text", x, y + 3, label)

    def route(self, start: str, end: str) -> tuple[list[tuple[float, float]], tuple[float, float]]:
        """Corners, and where the label goes."""
        x1, y1, w1, h1 = self.places[start]
        x2, y2, w2, h2 = self.places[end]
        if (start, end) == ("alb", "config"):
            points = [(x1 + w1 / 2, y1 + h1), (x1 + w1 / 2, y2 + h2 / 2), (x2 + w2, y2 + h2 / 2)]
            return points, (x1 + w1 / 2, (y1 + h1 + y2 + h2 / 2) / 2)
        if (start, end) == ("parameters", "rule"):
            foot = y1 + h1 + 34
            return [(x1 + w1 / 2, y1 + h1), (x1 + w1 / 2, foot), (x2 + w2 / 2, foot), (x2 + w2 / 2, y2 + h2)], (x1 - 30, foot)
        if (start, end) == ("rule", "invalidator"):
            bend = y2 + h2 + 30
            return [(x1 + w1 / 2, y1), (x1 + w1 / 2, bend), (x2 + 50, bend), (x2 + 50, y2 + h2)], (0, 0)
        if start == "endpoints":
            x = x2 + w2 / 2
            return [(x, y1 + h1), (x, y2)], (x, (y1 + h1 + y2) / 2)
        if y1 == y2:
            a, b = (x1 + w1, x2) if x1 < x2 else (x1, x2 + w2)
            y = y1 + h1 / 2
            return [(a, y), (b, y)], ((a + b) / 2, y - 12)
        a, b = (y1 + h1, y2) if y1 < y2 else (y1, y2 + h2)
        x = x2 + w2 / 2 if end != "endpoints" else x1 + w1 / 2
        return [(x, a), (x, b)], (x, (a + b) / 2)

    def draw(self) -> str:
        terraform = self.terraform
        top, bottom = ROWS["first"] - 52, ROWS["endpoints"] + BOX_HEIGHT + 18
        left = COLUMNS[1] - 22
        self.rectangle("zone", left, top, WIDTH - 20 - left, bottom - top, 10)
        self.text("line", left + 16, top + 22, "VPC: private subnets only, by default without NAT", "start")
        self.text("small", left + 16, top + 38, "network", "start")

        inside = {name for name, (x, y, _, _) in self.places.items() if x > left and top < y < bottom}
        for start, end, kind, label in ARROWS:
            self.arrow(start, end, kind, terraform.label(label), {start, end} <= inside or end == "alb")

        self.box("client", "Client", "a tenant's user or service", "")
        for name, (_, _, module, resource, title, line) in BOXES.items():
            terraform.require(module, resource)
            self.box(name, title, line, f"{module}: {resource.removeprefix('aws_')}")
        module, resource, title = ENDPOINTS
        terraform.require(module, resource)
        interfaces = ", ".join(terraform.interface_endpoints)
        self.box("endpoints", f"{title}, each with a policy", f"interface: {interfaces}; gateway: {', '.join(terraform.gateway_endpoints)}",
                 f"{module}: {resource.removeprefix('aws_')}")
        height = self.beside()
        self.legend(height)

        heads = "".join(
            f'<marker id="{kind}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path class="{kind}-head" d="M0 0 L10 5 L0 10 z"/></marker>'
            for kind in ("request", "change")
        )
        height += 40
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
            'aria-label="Architecture of the AWS target">\n'
            "<!-- Made by terraform/scripts/diagram.py: do not edit. -->\n"
            f"<style>{STYLE}</style>\n<defs>{heads}</defs>\n"
            f'<rect class="sheet" width="{WIDTH}" height="{height}"/>\n' + "\n".join(self.lines) + "\n</svg>\n"
        )

    def beside(self) -> int:
        """Every module that has no box, so that none is forgotten."""
        drawn = {box[2] for box in BOXES.values()} | {ENDPOINTS[0], "network"}
        x, y = COLUMNS[0], ROWS["beside"]
        self.text("small", x, y - 10, "Beside the paths:", "start")
        for module in self.terraform.modules:
            if module in drawn:
                continue
            width = 6.6 * len(module) + 24
            if x + width > WIDTH - 40:
                x, y = COLUMNS[0], y + 36
            self.rectangle("chip", x, y, width, 26, 13)
            self.text("line", x + width / 2, y + 17, module)
            x += width + 10
        return y + 50

    def legend(self, y: int) -> None:
        for x, kind, words in ((COLUMNS[0], "request", "path of a request"), (COLUMNS[1], "change", "path of a change")):
            self.lines.append(f'<path class="{kind}" d="M{x} {y} L{x + 50} {y}" marker-end="url(#{kind})"/>')
            self.text("line", x + 60, y + 4, words, "start")


def main() -> int:
    terraform = Terraform()
    drawing = Drawing(terraform).draw()
    if not terraform.problems and "--check" in sys.argv[1:]:
        if not DRAWING.exists() or DRAWING.read_text() != drawing:
            terraform.problems.append("docs/architecture.svg is stale: run terraform/scripts/diagram.py")
    elif not terraform.problems:
        DRAWING.write_text(drawing)
    for problem in terraform.problems:
        print(problem, file=sys.stderr)
    return 1 if terraform.problems else 0


if __name__ == "__main__":
    sys.exit(main())
