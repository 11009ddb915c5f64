"""Which ad to show: the candidates of an impression, and the policy that chooses among them."""
