"""E environments stepped together; the one room that knows Gymnasium's autoreset."""
