"""What the watches do not show and is asked for, rarely: the pods' servers, the nodes, Events."""
