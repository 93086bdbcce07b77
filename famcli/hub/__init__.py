"""Models by name: packaged, in a folder, or on the Hugging Face Hub, in both directions."""

from famcli.hub.names import find_model as find_model
