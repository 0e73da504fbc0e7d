"""What a deployed network costs, and the files it is deployed as."""
