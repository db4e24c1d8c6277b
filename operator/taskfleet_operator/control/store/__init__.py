"""The objects of the cluster, as informers have shown them."""
