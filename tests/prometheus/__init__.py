"""Rules, dashboards and runbooks against a real Prometheus. `install.sh` gets it on Debian."""
