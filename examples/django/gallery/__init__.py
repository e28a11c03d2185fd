"""A gallery: visitors upload pictures, everybody sees them."""
