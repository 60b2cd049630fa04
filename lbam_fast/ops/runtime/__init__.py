"""What is kept from call to call."""
