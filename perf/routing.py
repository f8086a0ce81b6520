"""The same table of routes in the language of each proxy: many that a request does not meet, and the last that takes everything.

A table is `prefix` or `regex`; what its tenants share is only that, so that both can be asked for the same path.
"""

# Conditions of many kinds, none of which the measured requests meet: every request is tried against all of them.
OTHER_ROUTES = [
    'path_exact = "/healthz"',
    'path_exact = "/robots.txt"',
    'path_exact = "/favicon.ico"',
    'host = "admin.example.com"',
    'host = "shop.example.com"',
    'host = "api.example.com"\npath_prefix = "/v2"',
    'path_prefix = "/api/v1"',
    'path_prefix = "/api/v2"',
    'path_prefix = "/cable"',
    'path_prefix = "/sidekiq"\nstrip_prefix = true',
    'path_prefix = "/assets"',
    'path_prefix = "/uploads"',
    'path_prefix = "/old-api"\nstrip_prefix = true',
    'path_exact = "/users/new"',
    'path_prefix = "/files"',
    'path_prefix = "/orders/items"',
    'host = "api.example.net"\npath_prefix = "/v2"',
    'host = "canary.example.net"',
    'path_prefix = "/docs"',
]




def last_tenant(count):
    """The number of the tenant that is written last in a table of so many routes."""
    return count - 2


def late_path(count):
    """What only the route before the last takes."""
    return f"/tenant-{last_tenant(count)}/orders"


def tenants(count, shared=0):
    """Numbers of the tenants, when so many routes before them are of other kinds."""
    return range(shared, last_tenant(count) + 1)


def warpdrive_routes(count, kind="prefix"):
    """The given number of routes, the last of which takes everything."""
    condition = {"prefix": 'path_prefix = "/tenant-{}"', "regex": 'path_regex = "^/tenant-{}/"'}[kind]
    routes = OTHER_ROUTES + [condition.format(number) for number in tenants(count, len(OTHER_ROUTES))]
    routes = routes[: count - 1] + ['path_prefix = "/"']
    return "".join(f'\n[[routes]]\n{route}\nupstream = "origin"\n' for route in routes)


def nginx_locations(count, kind="prefix"):
    """The locations before `/`. nginx keeps prefixes in a tree, and tries expressions one after the other."""
    match = {"prefix": "/tenant-{}", "regex": "~ ^/tenant-{}/"}[kind]
    return "".join(
        f"        location {match.format(number)} {{ proxy_pass http://origin; }}\n" for number in tenants(count)
    )


def haproxy_map(count, kind="prefix"):
    """Lines of a map from a path to a backend. HAProxy keeps prefixes in a tree, too."""
    match = {"prefix": "/tenant-{}/", "regex": "^/tenant-{}/"}[kind]
    return "".join(f"{match.format(number)} origin\n" for number in tenants(count))
