"""Makes tokens as platforms do, with PyJWT, and as attackers do, by hand.

One argument: a JSON list of {"alg", "key", "headers", "claims"}, and prints a list of tokens. `key` is a secret, or a
private key in PEM. With "by hand" the algorithm's rules are not asked; "none" signs nothing. A token of {"set": [{"pem",
"kid", …}]} is the JWK set of public keys in PEM.
"""

import base64
import hashlib
import hmac
import json
import sys

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import ECAlgorithm, RSAAlgorithm


def encoded(value):
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def by_hand(recipe):
    header = {"alg": recipe["alg"], "typ": "JWT", **recipe.get("headers", {})}
    parts = [encoded(json.dumps(part).encode()) for part in (header, recipe["claims"])]
    message = ".".join(parts)
    key = recipe.get("key")
    mac = hmac.new(key.encode(), message.encode(), hashlib.sha256).digest() if key else b""
    return f"{message}.{encoded(mac)}"


def jwk(key):
    public = load_pem_public_key(key.pop("pem").encode())
    kind = RSAAlgorithm if hasattr(public.public_numbers(), "n") else ECAlgorithm
    made = json.loads(kind.to_jwk(public))
    made.pop("key_ops", None)
    return {**made, **key}


def token(recipe):
    if "set" in recipe:
        return json.dumps({"keys": [jwk(key) if "pem" in key else key for key in recipe["set"]]})
    if recipe.get("by hand"):
        return by_hand(recipe)
    return jwt.encode(recipe["claims"], recipe["key"], recipe["alg"], recipe.get("headers"))


print(json.dumps([token(recipe) for recipe in json.loads(sys.argv[1])]))
