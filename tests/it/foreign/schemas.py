"""Validates answers against the schemas of an OpenAPI document.

Reads {"document": …, "answers": [{"schema": JSON pointer, "body": …}]} and prints what is wrong, a line for each.
"""

import json
import sys
from urllib.parse import quote

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

given = json.load(sys.stdin)
registry = Registry().with_resource("urn:document", DRAFT202012.create_resource(given["document"]))
for answer in given["answers"]:
    schema = {"$ref": "urn:document#" + quote(answer["schema"])}
    for error in Draft202012Validator(schema, registry=registry).iter_errors(answer["body"]):
        print(f"{answer['schema']}: {error.json_path}: {error.message}")
