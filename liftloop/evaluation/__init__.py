"""What matured impressions brought, and how the champion did on them."""
