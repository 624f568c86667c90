"""What turns pixels into pixels, behind one narrow protocol."""
