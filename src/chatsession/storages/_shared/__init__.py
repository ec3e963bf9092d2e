"""What several back ends need."""
