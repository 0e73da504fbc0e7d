"""Networks: what is deployed (`zoo`) and how it looks while it trains (`reparam`)."""
