"""Read what runs and what is stuck, from Consul, the gateways' metrics, the broker and the databases."""
