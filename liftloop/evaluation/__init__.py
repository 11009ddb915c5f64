"""KPIs of matured impressions, and the champion's predictions and decisions on them."""
