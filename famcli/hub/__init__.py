"""Models by name: packaged, in a folder, or on the Hugging Face Hub, in both directions."""

from famcli.hub.load import find_model as find_model
