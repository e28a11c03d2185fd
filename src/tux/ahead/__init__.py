"""What is made before anybody asks for it: compressed copies."""
