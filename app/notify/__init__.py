"""What is told of by itself: derived once from each pass, and sent to webhooks."""
