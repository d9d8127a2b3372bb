"""Debian's Keystone behind what Apache's mod_auth_openidc does at an EGI site.

With `AuthType oauth20` that module lets a request to the federated path through
only with an access token that the OpenID provider vouches for, and tells Keystone
in the environment whose it is. Here two tokens are known, and everything behind
the environment is Keystone's own: identity provider, protocol, mapping, groups.
"""

import re

from keystone.server.wsgi import initialize_public_application

ISSUER = "https://aai.example.org/"
TOKENS = {
    # A member of the group that may manage flavors, and one of no group.
    "operator-access-token": {"sub": "operator@example.org", "groups": "flavorsync-operators"},
    "stranger-access-token": {"sub": "stranger@example.org", "groups": "others"},
}
FEDERATED = re.compile(r"^/v3/OS-FEDERATION/identity_providers/[^/]+/protocols/openid/auth/?$")

keystone = initialize_public_application()


def application(environ, start_response):
    # Nobody but the module says who somebody is.
    for name in [name for name in environ if name.startswith("HTTP_OIDC_")]:
        del environ[name]
    if FEDERATED.match(environ.get("PATH_INFO", "")):
        scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        claims = TOKENS.get(token) if scheme == "Bearer" else None
        if claims is None:
            body = b"<html><head><title>401 Unauthorized</title></head></html>"
            start_response("401 Unauthorized", [
                ("Content-Type", "text/html; charset=iso-8859-1"), ("Content-Length", str(len(body))),
                ("WWW-Authenticate", 'Bearer error="invalid_token"')])
            return [body]
        environ["HTTP_OIDC_ISS"] = ISSUER
        environ["HTTP_OIDC_SUB"] = claims["sub"]
        environ["HTTP_OIDC_GROUPS"] = claims["groups"]
    return keystone(environ, start_response)
