"""Proxies that ask the gateway, each the real one."""
