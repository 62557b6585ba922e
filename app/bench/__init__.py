"""Measurements on the machine at hand; `crossbit bench` alone imports this. The extra `bench` brings what it needs."""
