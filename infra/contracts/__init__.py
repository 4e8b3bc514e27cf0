"""Everything that crosses between rooms, as versioned models: events, manifests, task names, the routing table."""
