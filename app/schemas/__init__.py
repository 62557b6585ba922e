"""Bodies of requests and answers; pydantic lives here and in the settings, nowhere deeper."""
