"""The service: HTTP API, jobs, command line and web page."""
