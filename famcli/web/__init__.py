"""A web page to drop photographs on, here and as a Hugging Face Space."""
