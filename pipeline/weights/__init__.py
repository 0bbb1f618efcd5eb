"""Published weights of networks: catalogue, download, and the files on this machine."""
