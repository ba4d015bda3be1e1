"""What Gunicorn's first process loads, as its configuration: the code, but no application.

The processes that answer requests are forked from it. They have the code at once, share its
memory, and one that died is replaced without loading it all again. Each makes an application of
its own: connections and threads must not be shared.
"""

import api.app  # noqa: F401
