"""What can be seen of images, a table and a network before anything is configured: `cfx init`."""
