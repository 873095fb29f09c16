"""A real Kubernetes control plane on the loopback; its nodes and pods are played by KWOK."""
